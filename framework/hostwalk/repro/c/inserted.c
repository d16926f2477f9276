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
