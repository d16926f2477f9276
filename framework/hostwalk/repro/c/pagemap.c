/* A page's entry in /proc/self/pagemap: page frame in bits 54:0 (for root), present in bit 63. */
static unsigned long long pagemap_entry(const char *at)
{
	unsigned long long entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	if (fd < 0 || pread(fd, &entry, 8, (unsigned long)at / page * 8) != 8) {
		perror("/proc/self/pagemap");
		exit(3);
	}
	close(fd);
	return entry;
}
