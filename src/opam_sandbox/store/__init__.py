"""What is kept between processes, how much room each kind of it takes, and what of it goes."""
