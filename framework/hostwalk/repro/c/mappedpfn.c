/* As pagemap tells it; of a VM_PFNMAP mapping, which pagemap passes over, as the module does. */
static long long mapped_pfn(const char *at)
{
	unsigned long long value = (unsigned long)at;
	long long pfn = pagemap_pfn(at);

	if (pfn >= 0)
		return pfn;
	must(ioctl(device(), REPRO_PFN, &value), "ioctl of /dev/repro");
	return value;
}
