/* The offset of the mapping at an address in its file, in pages, as proc_pid_maps(5) says it. */
static long long offset_of_mapping(const char *at)
{
	unsigned long start, end, wanted = (unsigned long)at;
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long long offset;
	long long found = -1;
	char line[4096];

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %*s %llx", &start, &end, &offset) == 3 &&
		    start <= wanted && wanted < end)
			found = offset / page;
	if (maps)
		fclose(maps);
	if (found < 0) {
		fprintf(stderr, "nothing is mapped at %p\n", (void *)at);
		exit(3);
	}
	return found;
}
