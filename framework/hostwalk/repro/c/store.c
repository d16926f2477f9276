static void store(char *start, long pages, char byte)
{
	for (long i = 0; i < pages; i++)
		((volatile char *)start)[i * page] = byte;
}
