"""The data of these examples: 1,797 digits of 8 x 8 px that ship with scikit-learn."""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

images, labels = load_digits(return_X_y=True)
x, x_val, y, y_val = train_test_split(images / 16, labels, test_size=0.3, random_state=0)
