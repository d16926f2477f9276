static void end_child(struct child *child)
{
	if (!child->pid)
		_exit(0);
	waitpid(child->pid, NULL, 0);
}
