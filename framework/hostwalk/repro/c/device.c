static int device(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("/dev/repro", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		perror("/dev/repro (load the module first: insmod repro_mod.ko)");
		exit(3);
	}
	return fd;
}
