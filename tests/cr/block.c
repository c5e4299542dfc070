/* SPDX-License-Identifier: Apache-2.0 */
/* A block device that config.json gives: offsets, flags, what is written before and after; and devices without a state. */
/* cr: modes=block */
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "cr.h"

enum { BLOCK = 4096 };

int main(void)
{
	int disk = must(open("/dev/disk", O_RDWR)), same = must(dup(disk));
	int direct = must(open("/dev/disk", O_RDONLY | O_DIRECT | O_SYNC));
	int path = must(open("/dev/disk", O_PATH));
	int kmsg = must(open("/dev/messages", O_WRONLY | O_NONBLOCK));
	int control = must(open("/dev/loops", O_RDWR));
	char *b = must(mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	uint64_t size, now;
	struct stat st;
	off_t at = 0;
	int round = 0;

	must(ioctl(disk, BLKGETSIZE64, &size));
	must(lseek(direct, 8 * BLOCK, SEEK_SET));
	while (cr_wait()) {
		round++;
		check(lseek(disk, 0, SEEK_CUR) == at && lseek(same, 0, SEEK_CUR) == at, "offset");
		check(lseek(direct, 0, SEEK_CUR) == 8 * BLOCK, "offset of the second one");
		check((fcntl(direct, F_GETFL) & (O_DIRECT | O_SYNC | O_ACCMODE)) == (O_DIRECT | O_SYNC),
			"flags");
		for (int i = 0; i < round - 1; i++)
			check(pread(disk, b, BLOCK, i * BLOCK) == BLOCK && b[0] == i + 1 &&
					b[BLOCK - 1] == i + 1,
				"what was written in round %d is %d", i + 1, b[0]);
		memset(b, round, BLOCK);
		check(write(same, b, BLOCK) == BLOCK, "write: %m");
		at += BLOCK;
		check(fsync(disk) == 0, "fsync: %m");
		check(pread(direct, b, BLOCK, at - BLOCK) == BLOCK && b[7] == round, "read: %m");
		check(ioctl(disk, BLKGETSIZE64, &now) == 0 && now == size, "size");
		check(fstat(path, &st) == 0 && S_ISBLK(st.st_mode) && (fcntl(path, F_GETFL) & O_PATH),
			"O_PATH");
		check(fstat(kmsg, &st) == 0 && st.st_rdev == makedev(1, 11) &&
				fcntl(kmsg, F_GETFL) == (O_WRONLY | O_NONBLOCK | O_LARGEFILE | 0100000),
			"kmsg: %o", fcntl(kmsg, F_GETFL));
		check(ioctl(control, LOOP_CTL_REMOVE, -1) == -1 && errno == EINVAL, "loop-control: %m");
	}
	return 0;
}
