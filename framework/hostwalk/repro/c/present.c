static long long pagemap_present(const char *at)
{
	return pagemap_entry(at) >> 63;
}
