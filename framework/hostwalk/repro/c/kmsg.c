/* Whether the kernel has logged some words. */
static int logged(const char *words)
{
	static char text[1 << 20];
	int size = klogctl(3, text, sizeof(text) - 1);

	text[size > 0 ? size : 0] = '\0';
	return strstr(text, words) != NULL;
}
