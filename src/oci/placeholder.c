typedef int placeholder_oci;
