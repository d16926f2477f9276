/* Have the kernel empty its per-CPU batches of pages, which hold references of their own. */
static void settle(void)
{
	unsigned long node = 1;

	syscall(SYS_migrate_pages, 0, 2, &node, &node);
}
