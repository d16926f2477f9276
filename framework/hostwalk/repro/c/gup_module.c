/* The pages of each call, until they are given back. */
static struct page *held[REPRO_CALLS][REPRO_PAGES];
static long held_nr[REPRO_CALLS];

static void release(unsigned int call, bool pinned)
{
	for (long i = 0; i < held_nr[call]; i++) {
		if (pinned)
			unpin_user_page(held[call][i]);
		else
			put_page(held[call][i]);
	}
	held_nr[call] = 0;
}

static long repro_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct repro_pages in;
	unsigned int call;
@FIRST@	if (copy_from_user(&in, (void __user *)arg, sizeof(in)))
		return -EFAULT;
	if (cmd == REPRO_COUNT) {
		if (!pfn_valid(in.pfn[0]))
			return -EINVAL;
		in.ret = page_count(pfn_to_page(in.pfn[0]));
		return copy_to_user((void __user *)arg, &in, sizeof(in)) ? -EFAULT : 0;
	}
	if (in.nr < 0 || in.nr >= REPRO_PAGES)
		return -E2BIG;
	if (_IOC_NR(cmd) < REPRO_CALLS)
		memset(held[_IOC_NR(cmd)], 0, sizeof(held[0]));
	switch (cmd) {
@CALLS@
	default:
		return -ENOTTY;
	}
	for (in.filled = 0; in.filled < in.nr && held[call][in.filled];)
		in.filled++;
	held_nr[call] = clamp_t(long, in.ret, 0, in.filled);
	for (long i = 0; i < held_nr[call]; i++)
		in.pfn[i] = page_to_pfn(held[call][i]);
	return copy_to_user((void __user *)arg, &in, sizeof(in)) ? -EFAULT : 0;
}
