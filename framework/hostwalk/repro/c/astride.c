/* A free address: half of so many pages from there are the last of one page table. */
static long astride_tables(long pages)
{
	const long size = page / 8 * page;
	char *all = map(NULL, 3 * size / page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(all, 3 * size);
	return ((long)all + size - 1) / size * size + size - pages / 2 * page;
}
