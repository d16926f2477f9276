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
