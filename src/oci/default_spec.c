/* SPDX-License-Identifier: Apache-2.0 */
/* The config.json that the spec command writes. Kept as text: what is shown here is what the user gets. */
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "oci/spec-priv.h"

#define CAPABILITIES                                                                                         \
	"[\n\t\t\t\t\"CAP_AUDIT_WRITE\",\n\t\t\t\t\"CAP_KILL\",\n\t\t\t\t\"CAP_NET_BIND_SERVICE\"\n\t\t\t]"

static const char head[] = "{\n"
			   "\t\"ociVersion\": \"" OCI_VERSION "\",\n"
			   "\t\"process\": {\n"
			   "\t\t\"terminal\": true,\n"
			   "\t\t\"user\": {\n\t\t\t\"uid\": 0,\n\t\t\t\"gid\": 0\n\t\t},\n"
			   "\t\t\"args\": [\n\t\t\t\"sh\"\n\t\t],\n"
			   "\t\t\"env\": [\n"
			   "\t\t\t\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\",\n"
			   "\t\t\t\"TERM=xterm\"\n"
			   "\t\t],\n"
			   "\t\t\"cwd\": \"/\",\n"
			   "\t\t\"capabilities\": {\n"
			   "\t\t\t\"bounding\": " CAPABILITIES ",\n"
			   "\t\t\t\"effective\": " CAPABILITIES ",\n"
			   "\t\t\t\"permitted\": " CAPABILITIES "\n"
			   "\t\t},\n"
			   "\t\t\"rlimits\": [\n"
			   "\t\t\t{\n"
			   "\t\t\t\t\"type\": \"RLIMIT_NOFILE\",\n"
			   "\t\t\t\t\"hard\": 1024,\n"
			   "\t\t\t\t\"soft\": 1024\n"
			   "\t\t\t}\n"
			   "\t\t],\n"
			   "\t\t\"noNewPrivileges\": true\n"
			   "\t},\n"
			   "\t\"root\": {\n"
			   "\t\t\"path\": \"rootfs\",\n"
			   "\t\t\"readonly\": true\n"
			   "\t},\n"
			   "\t\"hostname\": \"stasis\",\n"
			   "\t\"mounts\": [\n";

/* Options are separated by spaces; "root" and "user" say in which variant the mount is. */
static const struct {
	bool root, user;
	const char *destination, *type, *source, *options;
} mounts[] = {
	{true, true, "/proc", "proc", "proc", NULL},
	{true, true, "/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"},
	{true, false, "/dev/pts", "devpts", "devpts",
		"nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"},
	/* An unprivileged user has no gid 5 to map. */
	{false, true, "/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620"},
	{true, true, "/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"},
	{true, true, "/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"},
	{true, false, "/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"},
	/* sysfs can be mounted only by the owner of the network namespace, which the rootless variant shares. */
	{false, true, "/sys", "none", "/sys", "rbind nosuid noexec nodev ro"},
	{true, true, "/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro"},
};

static const char resources[] = "\t\t\"resources\": {\n"
				"\t\t\t\"devices\": [\n"
				"\t\t\t\t{\n"
				"\t\t\t\t\t\"allow\": false,\n"
				"\t\t\t\t\t\"access\": \"rwm\"\n"
				"\t\t\t\t}\n"
				"\t\t\t]\n"
				"\t\t},\n";

static const char *const masked[] = {
	"/proc/acpi",
	"/proc/asound",
	"/proc/kcore",
	"/proc/keys",
	"/proc/latency_stats",
	"/proc/timer_list",
	"/proc/timer_stats",
	"/proc/sched_debug",
	"/sys/firmware",
	"/proc/scsi",
	NULL,
};

static const char *const readonly[] = {
	"/proc/bus",
	"/proc/fs",
	"/proc/irq",
	"/proc/sys",
	"/proc/sysrq-trigger",
	NULL,
};

static void print_mounts(FILE *f, bool rootless)
{
	bool first = true;

	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		if (rootless ? !mounts[i].user : !mounts[i].root)
			continue;
		fprintf(f,
			"%s\t\t{\n\t\t\t\"destination\": \"%s\",\n\t\t\t\"type\": \"%s\",\n\t\t\t\"source\": "
			"\"%s\"",
			first ? "" : ",\n", mounts[i].destination, mounts[i].type, mounts[i].source);
		first = false;
		if (mounts[i].options) {
			fputs(",\n\t\t\t\"options\": [\n\t\t\t\t\"", f);
			for (const char *c = mounts[i].options; *c; c++)
				*c == ' ' ? fputs("\",\n\t\t\t\t\"", f) : fputc(*c, f);
			fputs("\"\n\t\t\t]", f);
		}
		fputs("\n\t\t}", f);
	}
	fputs("\n\t],\n", f);
}

static void print_id_map(FILE *f, const char *key, unsigned host_id)
{
	fprintf(f,
		"\t\t\"%s\": [\n\t\t\t{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": %u,\n"
		"\t\t\t\t\"size\": 1\n\t\t\t}\n\t\t],\n",
		key, host_id);
}

static void print_namespaces(FILE *f, bool rootless)
{
	static const enum ns_type list[] = {NS_PID, NS_NET, NS_IPC, NS_UTS, NS_MNT, NS_USER, NS_CGROUP};
	struct statfs cgroup;
	/* As runc does: a cgroup namespace where there is nothing but v2, since programs that read v1 expect none. */
	bool v2 = statfs("/sys/fs/cgroup", &cgroup) == 0 && cgroup.f_type == CGROUP2_SUPER_MAGIC;
	const char *separator = "";

	fputs("\t\t\"namespaces\": [\n", f);
	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		if ((list[i] == NS_NET && rootless) || (list[i] == NS_USER && !rootless) ||
			(list[i] == NS_CGROUP && !v2))
			continue;
		fprintf(f, "%s\t\t\t{\n\t\t\t\t\"type\": \"%s\"\n\t\t\t}", separator, ns_oci_name(list[i]));
		separator = ",\n";
	}
	fputs("\n\t\t],\n", f);
}

static void print_list(FILE *f, const char *key, const char *const *list, const char *end)
{
	fprintf(f, "\t\t\"%s\": [\n", key);
	for (; *list; list++)
		fprintf(f, "\t\t\t\"%s\"%s\n", *list, list[1] ? "," : "");
	fprintf(f, "\t\t]%s\n", end);
}

int spec_default_json(bool rootless, char **ret)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	bool failed;

	if (!f)
		return -ENOMEM;
	fputs(head, f);
	print_mounts(f, rootless);
	fputs("\t\"linux\": {\n", f);
	if (rootless) {
		print_id_map(f, "uidMappings", geteuid());
		print_id_map(f, "gidMappings", getegid());
	} else {
		fputs(resources, f);
	}
	print_namespaces(f, rootless);
	print_list(f, "maskedPaths", masked, ",");
	print_list(f, "readonlyPaths", readonly, "");
	fputs("\t}\n}\n", f);
	failed = ferror(f);
	if (fclose(f) != 0 || failed)
		return -ENOMEM;
	*ret = take_ptr(text);
	return 0;
}
