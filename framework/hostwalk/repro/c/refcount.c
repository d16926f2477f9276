static long long refcount(const char *at)
{
	long long pfn = pagemap_pfn(at);
	struct repro_pages pages = { .pfn = { pfn } };

	if (pfn < 0)
		return -1;
	must(ioctl(device(), REPRO_COUNT, &pages), "ioctl of /dev/repro");
	return pages.ret;
}
