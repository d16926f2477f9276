static long number_in(const char *path)
{
	char text[64];

	read_text(path, text, sizeof(text));
	return atol(text);
}
