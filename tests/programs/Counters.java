// SPDX-License-Identifier: Apache-2.0
// Threads that count, allocate (so that the collector runs), hand work over, and check one another.

import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;

public class Counters {
	static final int THREADS = 8;
	static final AtomicLongArray counts = new AtomicLongArray(THREADS);
	static final AtomicLong handed = new AtomicLong();
	static final ArrayBlockingQueue<Long> queue = new ArrayBlockingQueue<>(100);
	static volatile boolean stop;

	static void say(String name, String text) throws Exception {
		Path tmp = Path.of("/cr/." + name);
		Files.writeString(tmp, text);
		Files.move(tmp, Path.of("/cr/" + name), StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
	}

	static void run(int me) {
		try {
			Map<Long, String> map = new HashMap<>();
			for (long n = 0; !stop; n++) {
				map.put(n % 5000, "entry " + n);
				if (n >= 5000 && !map.get((n + 1) % 5000).equals("entry " + (n - 4999)))
					throw new IllegalStateException("map of thread " + me + " at " + n);
				if (counts.incrementAndGet(me) != n + 1)
					throw new IllegalStateException("count of thread " + me + " at " + n);
				if (n % 50 == 0) {
					queue.put(n);
					Thread.sleep(1);
				}
			}
		} catch (Throwable t) {
			fail(t);
		}
	}

	static void fail(Throwable t) {
		try {
			say("error", t.toString());
			say("verdict", "FAIL: " + t);
		} catch (Exception e) {
			e.printStackTrace();
		}
		Runtime.getRuntime().halt(1);
	}

	public static void main(String[] args) throws Exception {
		Thread[] threads = new Thread[THREADS];
		for (int i = 0; i < THREADS; i++) {
			final int me = i;
			threads[i] = new Thread(() -> run(me), "counter-" + i);
			threads[i].start();
		}
		long last = System.nanoTime();
		while (!new File("/cr/stop").exists()) {
			for (int i = 0; i < 8; i++)
				queue.take();
			long n = handed.incrementAndGet(), now = System.nanoTime();
			if (now < last)
				fail(new IllegalStateException("time went back"));
			last = now;
			say("count", Long.toString(n));
		}
		stop = true;
		for (Thread t : threads)
			while (t.isAlive()) {
				queue.poll();
				t.join(1);
			}
		say("verdict", "PASS " + handed.get());
		Thread.sleep(1000000);
	}
}
