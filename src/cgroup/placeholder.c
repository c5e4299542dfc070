typedef int placeholder_cgroup;
