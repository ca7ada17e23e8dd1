"""What is left when training is over: the saved model or adapter, and the merged model."""
