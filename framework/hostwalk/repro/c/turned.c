static void turned(struct child *child)
{
	if (write(child->pid ? child->to_child[1] : child->to_parent[1], "", 1) != 1)
		exit(3);
}
