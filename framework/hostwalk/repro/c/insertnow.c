static struct inserted insert_now(int number, char *at)
{
	struct inserted made = { .area = at };
	struct repro_result result;

	must(ioctl(device(), REPRO_NOW(number), at), "ioctl of /dev/repro");
	result = insert_result();
	made.ret = result.ret;
	made.error = made.ret < 0 ? made.ret : 0;
	made.num = result.num;
	return made;
}
