/* A child that goes through the same steps; each waits while the other does its own. */
struct child {
	pid_t pid;
	int to_parent[2];
	int to_child[2];
};

static struct child fork_child(void)
{
	struct child child;

	if (pipe(child.to_parent) || pipe(child.to_child)) {
		perror("pipe");
		exit(3);
	}
	fflush(stdout);
	child.pid = fork();
	if (child.pid < 0) {
		perror("fork");
		exit(3);
	}
	close(child.pid ? child.to_parent[1] : child.to_child[1]);
	close(child.pid ? child.to_child[0] : child.to_parent[0]);
	return child;
}

/* Whether the step that follows is this process's; if not, wait until it is done. */
static int turn(struct child *child, int childs)
{
	char done;

	if (childs == !child->pid)
		return 1;
	if (read(child->pid ? child->to_parent[0] : child->to_child[0], &done, 1) != 1)
		exit(child->pid ? 3 : 0);
	return 0;
}
