static int has_flag(const char *flags, const char *flag)
{
	return strstr(flags, flag) != NULL;
}
