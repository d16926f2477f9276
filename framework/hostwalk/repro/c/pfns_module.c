static long tell_pfns(u64 __user *to, struct page **pages, int nr)
{
	for (int i = 0; i < nr; i++)
		if (put_user((u64)page_to_pfn(pages[i]), to + i))
			return -EFAULT;
	return 0;
}
