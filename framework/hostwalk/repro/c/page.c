static long page;
