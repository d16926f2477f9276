static void end_thread(struct thread *thread)
{
	sem_post(&thread->go);
	pthread_join(thread->id, NULL);
}
