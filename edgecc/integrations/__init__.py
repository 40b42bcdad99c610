"""edgecc inside other compilers: each part is a package named after its host, which is imported when it is used."""
