"""How to get the packages that some formats need."""

CURE = 'run `pip install "mercore[export]"`'
