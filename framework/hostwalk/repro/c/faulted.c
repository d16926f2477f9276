static sigjmp_buf back;
static siginfo_t caught;

static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	caught = *info;
	siglongjmp(back, 1);
}

/* From here a signal is an answer; each access is begun with sigsetjmp(). */
static void catch_faults(void)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	memset(&caught, 0, sizeof(caught));
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

static int faulted(int number, int code, const char *what)
{
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	if (caught.si_signo == number && (!code || caught.si_code == code))
		return 1;
	printf("%s: signal %d, code %d; signal %d was expected\n", what,
	       caught.si_signo, caught.si_code, number);
	return 0;
}
