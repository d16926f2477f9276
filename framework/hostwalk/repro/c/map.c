static char *map(char *at, long pages, int prot, int flags, int fd, long offset)
{
	char *start = mmap(at, pages * page, prot, flags, fd, offset);

	if (start == MAP_FAILED) {
		perror("mmap");
		exit(3);
	}
	return start;
}
