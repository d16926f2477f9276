/* Make a call on a mapping that is there already. */
static long insert_now(struct file *file, unsigned long addr,
		       int (*insert)(struct vm_area_struct *vma))
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	long ret = -EINVAL;

	result = (struct repro_result){};
	mmap_write_lock(mm);
	vma = vma_lookup(mm, addr);
	if (vma && vma->vm_file == file) {
		report(insert(vma));
		ret = 0;
	}
	mmap_write_unlock(mm);
	return ret;
}
