typedef int placeholder_container;
