/* Set a file until it is put back. */
static void set(const char *path, const char *text)
{
	if (!keep(path) || !write_text(path, text)) {
		perror(path);
		exit(3);
	}
}
