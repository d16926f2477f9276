/* A call that maps pages: where, what it returned, the error of it or of mmap(2). */
struct inserted {
	char *area;
	long ret;
	long error;
	long num;
};

static struct repro_result insert_result(void)
{
	struct repro_result result;

	must(ioctl(device(), REPRO_RESULT, &result), "ioctl of /dev/repro");
	return result;
}

static struct inserted insert(int number, char *at, long pages, int prot, int flags, long pgoff)
{
	struct inserted made = { .area = NULL };
	struct repro_result result;

	must(ioctl(device(), REPRO_ARM(number)), "ioctl of /dev/repro");
	made.area = mmap(at, pages * page, prot, flags, device(), pgoff * page);
	made.error = made.area == MAP_FAILED ? -errno : 0;
	result = insert_result();
	made.ret = result.ret;
	made.num = result.num;
	if (made.ret < 0)
		made.error = made.ret;
	return made;
}
