/* Whether a step was refused with an error, as it has to be. */
static int refused(long ret, int error, const char *call)
{
	if (ret < 0 && errno == error)
		return 1;
	printf("%s: %s; %s was expected\n", call,
	       ret < 0 ? strerror(errno) : "succeeded", strerror(error));
	return 0;
}
