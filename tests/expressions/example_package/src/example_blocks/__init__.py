"""Own blocks for detgraft, as a package that pip installs."""
