/* Of the step that is refused: 1 as it was seen, 0 it succeeds, 3 it is refused in another way. */
static int verdict(long ret, int error, const char *call)
{
	printf("%s: %s\n", call, ret < 0 ? strerror(errno) : "succeeded");
	if (ret >= 0)
		return 0;
	return errno == error ? 1 : 3;
}
