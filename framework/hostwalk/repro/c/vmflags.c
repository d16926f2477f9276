/* VmFlags of the mapping at an address, in the letters of proc_pid_smaps(5). */
static void vm_flags(const char *at, char *flags, int size)
{
	unsigned long start, end, wanted = (unsigned long)at;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	char line[256];
	int inside = 0;

	flags[0] = '\0';
	while (smaps && fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= wanted && wanted < end;
		if (inside && !strncmp(line, "VmFlags:", 8))
			snprintf(flags, size, "%s", line + 8);
	}
	if (smaps)
		fclose(smaps);
	if (!flags[0]) {
		fprintf(stderr, "no VmFlags of %p in /proc/self/smaps\n", (void *)at);
		exit(3);
	}
}
