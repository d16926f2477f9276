/* A step that has to succeed, or nothing is proven. */
static long must(long ret, const char *call)
{
	if (ret < 0) {
		fprintf(stderr, "%s: %s\n", call, strerror(errno));
		exit(3);
	}
	return ret;
}
