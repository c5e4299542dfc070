typedef int placeholder_linux;
