static void load(char *start, long pages)
{
	for (long i = 0; i < pages; i++)
		(void)((volatile char *)start)[i * page];
}
