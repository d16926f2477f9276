#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#define find_pfn follow_pfn
#else
static int find_pfn(struct vm_area_struct *vma, unsigned long addr, unsigned long *pfn)
{
	struct follow_pfnmap_args args = { .vma = vma, .address = addr };
	int ret = follow_pfnmap_start(&args);

	if (ret)
		return ret;
	*pfn = args.pfn;
	follow_pfnmap_end(&args);
	return 0;
}
#endif

/* The page frame at an address of a VM_PFNMAP mapping, which /proc/PID/pagemap passes over; or -1. */
static long tell_pfn(u64 __user *at)
{
	unsigned long pfn = 0;
	struct vm_area_struct *vma;
	bool found;
	u64 addr;

	if (get_user(addr, at))
		return -EFAULT;
	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	found = vma && !find_pfn(vma, addr, &pfn);
	mmap_read_unlock(current->mm);
	return put_user(found ? pfn : ~0ULL, at);
}
