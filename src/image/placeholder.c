typedef int placeholder_image;
