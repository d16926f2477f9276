/* A field of /proc/self/status that is in kB, in pages. */
static long long status_pages(const char *field)
{
	FILE *status = fopen("/proc/self/status", "r");
	long long value = -1;
	char line[256];

	while (status && fgets(line, sizeof(line), status))
		if (!strncmp(line, field, strlen(field)))
			sscanf(line + strlen(field), ": %lld", &value);
	if (status)
		fclose(status);
	if (value < 0) {
		fprintf(stderr, "no %s in /proc/self/status\n", field);
		exit(3);
	}
	return value * 1024 / page;
}
