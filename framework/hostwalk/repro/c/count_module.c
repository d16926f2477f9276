static long tell_count(struct repro_pages __user *user)
{
	u64 pfn;

	if (get_user(pfn, user->pfn))
		return -EFAULT;
	if (!pfn_valid(pfn))
		return -EINVAL;
	return put_user((s64)page_count(pfn_to_page(pfn)), &user->ret);
}
