static struct repro_pages gup(unsigned int call, char *start, long nr)
{
	struct repro_pages pages = { .start = (unsigned long)start, .nr = nr };

	must(ioctl(device(), call, &pages), "ioctl of /dev/repro");
	return pages;
}
