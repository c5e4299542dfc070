/* SPDX-License-Identifier: Apache-2.0 */
/* bound PATH: holds a unix socket that is bound to PATH, and says so by making /cr/ready. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (argc != 2 || strlen(argv[1]) >= sizeof(name.sun_path))
		return 2;
	memcpy(name.sun_path, argv[1], strlen(argv[1]));
	if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof(name)) < 0 || listen(fd, 1) < 0) {
		perror(argv[1]);
		return 1;
	}
	if (creat("/cr/ready", 0600) < 0)
		return 1;
	for (;;)
		pause();
}
