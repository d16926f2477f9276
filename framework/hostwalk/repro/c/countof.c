/* -1 where there is no page. */
static long long count_of(long long pfn)
{
	struct repro_pages pages = { .pfn = { pfn } };

	if (pfn < 0)
		return -1;
	must(ioctl(device(), REPRO_COUNT, &pages), "ioctl of /dev/repro");
	return pages.ret;
}
