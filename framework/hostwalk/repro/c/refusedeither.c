static int refused_either(long ret, int error, int other, const char *call)
{
	return (ret < 0 && errno == other) || refused(ret, error, call);
}
