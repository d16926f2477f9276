/* -1 where nothing is mapped. */
static long long pagemap_pfn(const char *at)
{
	unsigned long long entry = pagemap_entry(at);

	return entry >> 63 ? (long long)(entry & ((1ULL << 55) - 1)) : -1;
}
