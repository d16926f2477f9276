/* A thread that does one step at a time, when it is told to. */
struct thread {
	pthread_t id;
	sem_t go;
	sem_t done;
};

static void wait_for(sem_t *what)
{
	while (sem_wait(what) && errno == EINTR)
		;
}

static void start_thread(struct thread *thread, void *(*steps)(void *self))
{
	if (sem_init(&thread->go, 0, 0) || sem_init(&thread->done, 0, 0) ||
	    pthread_create(&thread->id, NULL, steps, thread)) {
		fprintf(stderr, "no thread can be made\n");
		exit(3);
	}
}

static void begin_step(struct thread *self)
{
	wait_for(&self->go);
}

static void end_step(struct thread *self)
{
	sem_post(&self->done);
}

/* Have a thread do its next step. */
static void step_of(struct thread *thread)
{
	sem_post(&thread->go);
	wait_for(&thread->done);
}
