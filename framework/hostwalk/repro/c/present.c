static long long pagemap_present(const char *at)
{
	return pagemap(at) >> 63;
}
