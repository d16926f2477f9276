/* What one entry of a pmd maps, as one huge page: so many pages. */
static char *huge_page(long pages)
{
	const long size = page / 8 * page;
	char *all = map(NULL, 2 * size / page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *start = all + (size - (unsigned long)all % size) % size;

	if (size != pages * page) {
		fprintf(stderr, "a huge page is of %ld pages here, not of %ld\n", size / page, pages);
		exit(3);
	}
	set("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
	if (!write_text("/proc/sys/vm/compact_memory", "1") || madvise(start, size, MADV_HUGEPAGE)) {
		perror("no huge page");
		exit(3);
	}
	*(volatile char *)start = 1;
	put_back();
	return start;
}
